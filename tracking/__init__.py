"""What is remembered: the only home of MLflow. Importing it imports nothing heavy; take what you need from a module."""
