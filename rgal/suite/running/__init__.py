"""Running trials: workers, teachers, progress on the console, exports."""
