"""Private names of PyTorch: the only door to them, so that a new version of PyTorch is a look at this folder.

One file for each subject. Each name says what it is for. Names are in every PyTorch from 2.1 on unless a comment says
since when, and what stands in before.
"""
