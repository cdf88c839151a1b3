"""The finite model: its arrays, the forms that it is built from, and its graph."""
