"""Jobs of many instances: noted in DynamoDB, their objects in S3, their workers woken by SQS. boto3 lives here."""
