"""`python -m bench peers`: other servers that do this work, beside the gateway and the C program."""
