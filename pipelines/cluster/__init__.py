"""Runs on Flink and Spark."""
