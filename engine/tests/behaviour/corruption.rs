//! Damaged files are found, moved away and made again, just that far.
