"""What differs between two archives: sections, fields, commands, tensors; and whether that stays within limits."""
