"""Training, data, teachers and evaluation. The core never imports this package."""
