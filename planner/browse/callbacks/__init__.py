"""What happens on the page, part by part."""
