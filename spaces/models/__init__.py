"""Networks that several spaces share; Keras is imported only inside the functions that build."""
