// Takes records apart with npm's aws-kinesis-agg. As read.py, otherwise.
const fs = require("fs");
const { deaggregateSync } = require("aws-kinesis-agg");

for (const line of fs.readFileSync(process.argv[2], "utf8").trimEnd().split("\n")) {
  const [, , key, data] = line.split(" ");
  const partitionKey = Buffer.from(key, "base64").toString();
  deaggregateSync({ partitionKey, sequenceNumber: "1", data }, true, (error, users) => {
    if (error) throw error;
    for (const user of users) console.log(Buffer.from(user.partitionKey).toString("base64"), user.data);
  });
}
