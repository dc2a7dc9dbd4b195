"""Generated PyTorch programs, and what has to hold of each of them."""
