"""What stands on the ground: houses and plants, cars, people, furniture of the road, and unknown obstacles."""
