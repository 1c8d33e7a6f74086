#!/usr/bin/env bash
# Fetches Apache Kafka, the broker and the tools of its distribution, as jars from Maven Central into a folder of
# the first argument, unless they are there, and prints that folder. Needs Maven and a JRE from 17 on. Connect
# comes with the tools, and is not needed.
set -euo pipefail
version=4.1.0
mkdir -p "$1"
to=$(realpath "$1")/kafka-$version
if [[ -e "$to/complete" ]]; then
  echo "$to/jars"
  exit
fi
for program in java mvn; do
  if ! command -v "$program" >/dev/null; then
    echo "$program is not here: apt-get install default-jre-headless maven" >&2
    exit 1
  fi
done
mkdir -p "$to"
cat >"$to/pom.xml" <<END
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>sluice</groupId><artifactId>kafka</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$version</version></dependency>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>$version</version>
      <exclusions>
        <exclusion><groupId>org.apache.kafka</groupId><artifactId>connect-runtime</artifactId></exclusion>
      </exclusions>
    </dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
END
mvn --quiet --batch-mode --file "$to/pom.xml" \
  org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies -DoutputDirectory="$to/jars" >&2
touch "$to/complete"
echo "$to/jars"
