"""The workshop: training, data, teachers and evaluation. The core never imports it."""
