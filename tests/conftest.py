"""What every test can ask for by name."""

pytest_plugins = ["tests.stack_fixtures", "tests.s3_server", "tests.turns"]
