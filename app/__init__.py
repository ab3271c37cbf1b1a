"""The application on top of the library `trinas`: the command line (`cli`) and the web page (`web`).

Both use `words` to write numbers and durations. `hf_space` serves the page as a Hugging Face Space.
"""
