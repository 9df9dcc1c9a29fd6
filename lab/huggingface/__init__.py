"""Published models in and out: folders of Hugging Face's format become run folders, and run folders such folders.

A family is a file in `families/`: how its `config.json` is said in words of the lab, and what its tensors are called there.
"""
