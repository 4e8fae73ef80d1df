"""batchsim: a simulator of the OpenAI Files and Batches API, over HTTP, for testing Batch API code."""
