"""What a worker does with one trial; the home of Keras, which nothing here imports before it must."""
