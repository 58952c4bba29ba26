"""Files of requests, of any length, answered by a published model: resumable, in constant memory."""
