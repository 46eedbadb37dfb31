"""The only code that knows the prompt: text comes in, token ids go out."""
