"""The image and the chart on real machinery: ``make test-deploy``."""
