# Each target is one line over ./run, which works without make too.
demo test test-all lint jar wheel clean setup:
	@./run $@
.PHONY: demo test test-all lint jar wheel clean setup
