"""What happens to rows between the two ends."""
