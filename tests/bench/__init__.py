"""scripts/bench: this file system beside rclone's on the same embedded server, in the same run."""
