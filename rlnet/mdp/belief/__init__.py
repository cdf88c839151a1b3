"""Is a model the model of what is stepped? Models of environments that others wrote, tried before they are believed."""
