"""What is shown of a run: pictures, the animation, health, the report, the networks explained."""
