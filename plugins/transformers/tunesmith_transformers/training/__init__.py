"""What trainers on the durable base share."""
