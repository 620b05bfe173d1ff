"""What people read: pages in Chinese and English, without script, and the charts on them."""
