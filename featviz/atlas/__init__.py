"""Many pictures: what a config asks for, the store that keeps them, what is shown of it."""
