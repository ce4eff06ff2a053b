"""What `object-detection` is made of: anchors, boxes, and the forms that models give them in."""
