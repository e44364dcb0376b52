"""A full-screen page with a camera on the server's engine, and the process that keeps server and browser running."""
