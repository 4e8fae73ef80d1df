"""The Batch API through the `openai` SDK; its errors and objects are mapped once, here."""
