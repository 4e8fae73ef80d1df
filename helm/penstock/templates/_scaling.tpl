{{- /* Up at once, down one replica at a time: each change makes the consumer group start anew. */ -}}
{{- define "penstock.scaling.behavior" -}}
scaleUp:
  stabilizationWindowSeconds: 60
  policies:
    - type: Pods
      value: 2
      periodSeconds: 120
scaleDown:
  stabilizationWindowSeconds: {{ int .Values.autoscaling.scaleDownSeconds }}
  policies:
    - type: Pods
      value: 1
      periodSeconds: 300
{{- end }}

{{- define "penstock.scaling.trigger" -}}
{{- $keda := .root.Values.autoscaling.keda -}}
- type: prometheus
  name: {{ .name }}
  metadata:
    serverAddress: {{ $keda.serverAddress | quote }}
    query: {{ include (printf "penstock.scaling.%s" .name) (dict "selector" (include "penstock.scaling.selector" .root) "threshold" (int .threshold)) | quote }}
    threshold: {{ int .threshold | quote }}
    # Where nothing is scraped nothing is known: that is an error, not no work.
    ignoreNullValues: "false"
  {{- with $keda.authentication }}
  authenticationRef:
    name: {{ . }}
  {{- end }}
{{- end }}

{{- /* The pods of this release's Deployments, and of no other release whose name begins alike. */ -}}
{{- define "penstock.scaling.selector" -}}
{{- $own := printf "namespace=\"%s\",pod=~\"%s(-intake|-submit|-publish)?-[a-z0-9]+-[a-z0-9]{5}\"" .Release.Namespace (include "penstock.fullname" .) -}}
{{ default $own .Values.autoscaling.keda.selector }}
{{- end }}

{{- /* Lag of topics whose intake neither their backlog nor an operator pauses, capped so that there are no more replicas than partitions. */ -}}
{{- define "penstock.scaling.lag" -}}
{{- $lag := printf "penstock_consumer_lag_records{%s}" .selector -}}
{{- $full := printf "max by (topic) (penstock_backlog_paused{%s}) == 1" .selector -}}
{{- $held := printf "max by (topic) (penstock_topic_paused{%s}) == 1" .selector -}}
clamp_max(sum({{ $lag }} unless on (topic) ({{ $full }}) unless on (topic) ({{ $held }})) or sum({{ $lag }}) * 0, {{ .threshold }} * scalar(sum(penstock_partitions_assigned{ {{- .selector -}} })))
{{- end }}

{{- /* Batches that are sealed and have their quota. */ -}}
{{- define "penstock.scaling.submitter" -}}
{{ include "penstock.scaling.work" (dict "stage" "submitter" "selector" .selector) }}
{{- end }}

{{- /* Batches that have ended and can be published. */ -}}
{{- define "penstock.scaling.publisher" -}}
{{ include "penstock.scaling.work" (dict "stage" "publisher" "selector" .selector) }}
{{- end }}

{{- /* A stage's work, but for accounts whose provider is away or refuses them: more replicas would wait, too. */ -}}
{{- define "penstock.scaling.work" -}}
{{- $work := printf "penstock_actionable_work{stage=\"%s\",%s}" .stage .selector -}}
{{- $away := printf "max by (account) (penstock_provider_away{%s}) == 1" .selector -}}
{{- $halted := printf "max by (account) (penstock_account_halted{%s}) == 1" .selector -}}
sum(max by (account) ({{ $work }}) unless on (account) ({{ $away }}) unless on (account) ({{ $halted }})) or sum({{ $work }}) * 0
{{- end }}
