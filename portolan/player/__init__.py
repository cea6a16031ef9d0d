"""A run that is played without a server: its graph and the studio's panel Sample as files.

about      what the page knows of the run
bundle     modules of JavaScript as one script
runtime    onnxruntime for browsers, from npm or from a folder
page       the folder
widget     the same panel in a notebook; there Python computes
"""
