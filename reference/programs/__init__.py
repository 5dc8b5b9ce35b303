"""The course homework: one complete program per framework, and the table that compares them."""
