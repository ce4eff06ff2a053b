"""The door of a deployment on AWS: one function that answers HTTP, queues of objects, and the clock."""
