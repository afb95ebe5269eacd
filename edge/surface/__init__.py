"""From registered strips to normals, albedo and the photometric checksum."""
