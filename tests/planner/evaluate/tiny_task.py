"""A task of lm-evaluation-harness: which of four words follows."""

SAMPLES, CHOICES, PROMPT = 30, 4, 5
TASK = """\
task: tiny
dataset_path: json
dataset_kwargs:
  data_files:
    test: tiny.jsonl
test_split: test
output_type: multiple_choice
doc_to_text: "{{query}}"
doc_to_target: gold
doc_to_choice: choices
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
"""
