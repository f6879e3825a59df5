"""What is shown to people: tables, sentences, pictures."""
