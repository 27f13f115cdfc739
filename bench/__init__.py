"""What zkstore costs and how fast it is, beside Apache ZooKeeper in the same run. See README.md."""
