{{- /* What no schema can say in a sentence: every problem at once, each with its mend. */ -}}
{{- define "penstock.validate" -}}
{{- $v := .Values -}}
{{- $wrong := list -}}
{{- if not $v.image.repository -}}
{{- $wrong = append $wrong "image.repository is empty: name the image that you pushed, such as registry.example.com/penstock" -}}
{{- end -}}
{{- $id := include "penstock.deployment" . -}}
{{- if gt (len $id) 40 -}}
{{- $wrong = append $wrong (printf "the deployment's id %s is longer than 40 characters: set deployment to a shorter one" $id) -}}
{{- end -}}
{{- if not $v.kafka.bootstrapServers -}}
{{- $wrong = append $wrong "kafka.bootstrapServers is empty: name the brokers, such as [kafka-bootstrap:9092]" -}}
{{- end -}}
{{- $mechanism := $v.kafka.sasl.mechanism -}}
{{- if eq $mechanism "OAUTHBEARER" -}}
{{- if not (or $v.kafka.sasl.token.secretName $v.extraVolumes) -}}
{{- $wrong = append $wrong "kafka.sasl.token.secretName is empty: OAUTHBEARER needs the Secret that holds the token" -}}
{{- end -}}
{{- else if $mechanism -}}
{{- if not (and $v.kafka.sasl.username $v.kafka.sasl.password.secretName) -}}
{{- $wrong = append $wrong (printf "kafka.sasl: %s needs username and password.secretName" $mechanism) -}}
{{- end -}}
{{- end -}}
{{- if and (not $v.kafka.tls.enabled) (or $v.kafka.tls.ca.secretName $v.kafka.tls.certificate.secretName) -}}
{{- $wrong = append $wrong "kafka.tls has a Secret and is off: set kafka.tls.enabled to true" -}}
{{- end -}}
{{- if $v.postgres.dsn.secretName -}}
{{- if or $v.postgres.host $v.postgres.password.secretName -}}
{{- $wrong = append $wrong "postgres.dsn says everything: leave out postgres.host and postgres.password" -}}
{{- end -}}
{{- if and $v.migrations.enabled $v.migrations.user (not $v.migrations.dsn.secretName) -}}
{{- $wrong = append $wrong "migrations.user needs postgres.host; beside postgres.dsn set migrations.dsn.secretName" -}}
{{- end -}}
{{- else -}}
{{- if not $v.postgres.host -}}
{{- $wrong = append $wrong "postgres.host is empty: name the server, or the Secret with the whole DSN in postgres.dsn.secretName" -}}
{{- end -}}
{{- if not (or $v.postgres.password.secretName $v.postgres.tls.certificate.secretName) -}}
{{- $wrong = append $wrong "postgres.password.secretName is empty: name the Secret that holds the role's password, or a client certificate in postgres.tls.certificate" -}}
{{- end -}}
{{- end -}}
{{- if and $v.migrations.enabled $v.migrations.user (not (or $v.migrations.password.secretName $v.migrations.dsn.secretName $v.postgres.tls.certificate.secretName)) -}}
{{- $wrong = append $wrong "migrations.password.secretName is empty: name the Secret that holds the password of migrations.user" -}}
{{- end -}}
{{- if and (not $v.simulator.enabled) (not $v.provider.apiKey.secretName) -}}
{{- $wrong = append $wrong "provider.apiKey.secretName is empty: name the Secret that holds the API key" -}}
{{- end -}}
{{- if and $v.simulator.enabled (not $v.simulator.image.repository) -}}
{{- $wrong = append $wrong "simulator.image.repository is empty: name the image of docker build --target simulator" -}}
{{- end -}}
{{- if and $v.webhook.enabled (not $v.webhook.secret.secretName) -}}
{{- $wrong = append $wrong "webhook.secret.secretName is empty: name the Secret that holds the webhook's whsec_... secret" -}}
{{- end -}}
{{- if eq (int $v.webhook.port) 8080 -}}
{{- $wrong = append $wrong "webhook.port is 8080, which serves metrics and probes: choose another" -}}
{{- end -}}
{{- if $v.spool.medium -}}
{{- $wrong = append $wrong (printf "spool.medium is %s: batches of gigabytes would fill it; leave it empty, the spool belongs on a disk" $v.spool.medium) -}}
{{- end -}}
{{- if and (eq $v.autoscaling.kind "keda") (not $v.autoscaling.keda.serverAddress) -}}
{{- $wrong = append $wrong "autoscaling.keda.serverAddress is empty: name the Prometheus that scrapes the service, such as http://prometheus.monitoring:9090" -}}
{{- end -}}
{{- range include "penstock.workloads" . | fromYamlArray -}}
{{- if lt (int .maxReplicas) (int .replicas) -}}
{{- $wrong = append $wrong (printf "%s has maxReplicas %d below replicas %d: raise it" .name (int .maxReplicas) (int .replicas)) -}}
{{- end -}}
{{- end -}}
{{- if eq $v.topics.create "strimzi" -}}
{{- if not $v.topics.strimzi.cluster -}}
{{- $wrong = append $wrong "topics.strimzi.cluster is empty: name the Kafka resource that the topics belong to" -}}
{{- end -}}
{{- if not $v.topics.replicas -}}
{{- $wrong = append $wrong "topics.replicas is 0: Strimzi needs their number, 3 in production" -}}
{{- end -}}
{{- end -}}
{{- if and $v.metrics.serviceMonitor.enabled $v.metrics.podMonitor.enabled -}}
{{- $wrong = append $wrong "metrics.serviceMonitor and metrics.podMonitor would scrape everything twice: enable one" -}}
{{- end -}}
{{- if $wrong -}}
{{- fail (printf "\n\nThe values cannot work:\n- %s\n" (join "\n- " $wrong)) -}}
{{- end -}}
{{- end }}
