"""Shows a run to people: pictures, the animation, verdicts, the report, the networks explained."""
