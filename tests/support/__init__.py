"""What tests share: small networks, generated images, servers. No test module imports another."""
