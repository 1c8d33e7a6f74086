"""A JSON Schema in a Glue registry of a third-party emulator, by way of boto3.

glue.py <endpoint> <name> <document>  makes a registry and in it a schema, both of that name
"""

import sys

import boto3

endpoint, name, document = sys.argv[1:]
glue = boto3.client(
    "glue",
    endpoint_url=endpoint,
    region_name="us-east-1",
    aws_access_key_id="interop",
    aws_secret_access_key="interop-secret",
)
glue.create_registry(RegistryName=name)
glue.create_schema(
    RegistryId={"RegistryName": name},
    SchemaName=name,
    DataFormat="JSON",
    Compatibility="NONE",
    SchemaDefinition=document,
)
