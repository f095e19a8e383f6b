{{- define "tcptrace.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Names of roles are the cluster's, not a namespace's. */}}
{{- define "tcptrace.role" -}}
{{- printf "%s-%s-kubelet" .Release.Namespace (include "tcptrace.name" .) -}}
{{- end -}}

{{- define "tcptrace.selected" -}}
app.kubernetes.io/name: tcptrace
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "tcptrace.labels" -}}
{{ include "tcptrace.selected" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "tcptrace.secret" -}}
{{- if .Values.token.existingSecret -}}
{{- .Values.token.existingSecret -}}
{{- else -}}
{{- include "tcptrace.name" . }}-token
{{- end -}}
{{- end -}}
