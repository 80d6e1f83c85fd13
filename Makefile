# Each target is one line over ./run, which works without make too.
demo test test-all test-airflow lint jar wheel clean setup:
	@./run $@
.PHONY: demo test test-all test-airflow lint jar wheel clean setup
