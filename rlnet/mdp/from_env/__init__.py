"""Models of other people's environments: read, explored, and tested against what is stepped before they are used."""
