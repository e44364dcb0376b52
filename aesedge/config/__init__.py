"""What users choose, what that comes to, and whether it fits into memory."""
