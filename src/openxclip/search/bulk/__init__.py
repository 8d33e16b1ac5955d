"""Fill one index from many machines: fragments and receipts by workers, commits by whoever holds the lease."""
