# Every target calls ./run, which also works without make.
demo test test-all test-airflow lint links jar wheel clean setup:
	@./run $@
test-spark: # make test-spark VERSION=4.0.5
	@./run $@ $(VERSION)
.PHONY: demo test test-all test-spark test-airflow lint links jar wheel clean setup
