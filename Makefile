# Every target calls ./run, which also works without make.
demo test test-all test-airflow lint links jar wheel clean setup:
	@./run $@
.PHONY: demo test test-all test-airflow lint links jar wheel clean setup
