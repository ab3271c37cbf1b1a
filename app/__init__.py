"""The application over the library `trinas`: the command line (`cli`) and the web page (`web`).

Both take their numbers and durations in words from `words`. `hf_space` serves the page as a Hugging Face Space.
"""
