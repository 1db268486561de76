"""Many pictures: what a config asks for, the folder that keeps them, the contact sheet."""
